"""Runs a command in a network namespace of its own that has a tap, with servers at its host's end.

    unshare -rn python3 tap_host.py name|fd COMMAND...

"name": the tap stays there as tap0, for the command to attach to. "fd": the command inherits it,
attached, as descriptor 9. The host's end is 192.0.2.2/24; port 80 gives 16 MiB of noise by HTTP, and
port 81 is the sink of test_network.py. They end with the command.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

from test_network import Sink, WebServer

TAP = b"tap0"
INHERITED = 9
SIZE = 16 << 20
TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
IFF_UP = 1
PR_SET_PDEATHSIG = 1


def make_tap(persistent):
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", TAP, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    if persistent:
        fcntl.ioctl(tap, TUNSETPERSIST, 1)
        os.close(tap)
    else:
        os.dup2(tap, INHERITED, inheritable=True)
        os.close(tap)


def set_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for request, address in ((SIOCSIFADDR, "192.0.2.2"), (SIOCSIFNETMASK, "255.255.255.0")):
            fcntl.ioctl(sock, request, struct.pack("16sHH4s16x", TAP, socket.AF_INET, 0,
                                                   socket.inet_aton(address)))
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", TAP, IFF_UP))


def serve():
    web, sink = WebServer(SIZE, ("192.0.2.2", 80)), Sink(("192.0.2.2", 81))
    if os.fork() != 0:
        return  # what listens answers later
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        web.serve_forever()
    sink.serve_forever()


def main():
    make_tap(persistent=sys.argv[1] == "name")
    set_up()
    if sys.argv[2:] == ["probe"]:
        return
    serve()
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
