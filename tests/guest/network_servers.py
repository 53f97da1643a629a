"""Servers of the host that a guest uses: web, DNS, files by TFTP, and a sink."""

import hashlib
import http.server
import random
import socket
import socketserver
import struct
import threading


def in_background(test, server):
    """Serves until the test ends; the port."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    test.addCleanup(thread.join)
    test.addCleanup(server.server_close)
    test.addCleanup(server.shutdown)
    return server.server_address[1]


class WebServer(http.server.ThreadingHTTPServer):
    """Gives `size` bytes of noise under any name."""

    def __init__(self, size, address=("127.0.0.1", 0)):
        self.noise = random.Random(20261122).randbytes(size)
        super().__init__(address, WebServer.Handler)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.noise)))
            self.end_headers()
            try:
                self.wfile.write(self.server.noise)
            except OSError:
                pass  # the guest has ended in the middle

        def log_message(self, *_):
            pass


class WebServer6(WebServer):
    address_family = socket.AF_INET6


class Sink(socketserver.ThreadingTCPServer):
    """Answers what a client sends until it ends with the SHA-256 of it."""
    daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            digest = hashlib.sha256()
            left = int.from_bytes(self.rfile_read(8), "big")
            while left:
                data = self.request.recv(min(left, 1 << 20))
                if not data:
                    break
                left -= len(data)
                digest.update(data)
            self.request.sendall(digest.hexdigest().encode() + b"\n")

        def rfile_read(self, count):
            data = b""
            while len(data) < count:
                data += self.request.recv(count - len(data))
            return data

    def __init__(self, address=("127.0.0.1", 0)):
        super().__init__(address, Sink.Handler)


class FileServer(socketserver.UDPServer):
    """Gives 64 000 bytes of noise by TFTP, under any name. [RFC 1350]"""
    BLOCK = 512

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            data, sock = self.request
            kind, number = struct.unpack_from(">HH", data)
            last = 0 if kind == 1 else number if kind == 4 else None
            if last is not None:
                block = self.server.noise[last * FileServer.BLOCK:][:FileServer.BLOCK]
                if last <= len(self.server.noise) // FileServer.BLOCK:
                    sock.sendto(struct.pack(">HH", 3, last + 1) + block, self.client_address)

    def __init__(self):
        self.noise = random.Random(20261123).randbytes(64000)
        super().__init__(("127.0.0.1", 0), FileServer.Handler)


class Resolver(socketserver.UDPServer):
    """A name server that knows one name: it has the address 192.0.2.77. [RFC 1035] 4"""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            query, sock = self.request
            number, = struct.unpack_from(">H", query)
            end = query.index(b"\0", 12) + 5
            question = query[12:end]
            kind, = struct.unpack_from(">H", query, end - 4)
            known = question.lower().startswith(b"\x05known\x04test\0")
            answer = b""
            if known and kind == 1:
                answer = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 60, 4, 192, 0, 2, 77)
            header = struct.pack(">6H", number, 0x8180 if known else 0x8183, 1, bool(answer), 0, 0)
            sock.sendto(header + question + answer, self.client_address)

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Resolver.Handler)


def fetch(port, name, address="127.0.0.1"):
    """A file from a web server, which has to have it."""
    with socket.create_connection((address, port), timeout=120) as client:
        client.sendall(f"GET {name} HTTP/1.0\r\n\r\n".encode())
        data = b""
        while chunk := client.recv(1 << 20):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head:
        raise AssertionError(f"no {name}: {head!r}")
    return body
