"""The commands of README.md's first screen and of docs/ci.md work as they are written there."""

import os
import re
import shutil
import subprocess
import unittest
import xml.etree.ElementTree as ElementTree

import ci_recipes
import guest_contents
from vmm_guest import *

BUILD = os.path.dirname(VMM)


class Recipes(GuestTest):
    """What is installed and built is there already; the rest is done as a CI system's runner does it."""

    def setUp(self):
        super().setUp()
        self.bin = os.path.join(self.directory, "bin")
        os.mkdir(self.bin)
        guest_contents.write_busybox(self.bin)
        os.symlink(VMM, os.path.join(self.bin, "vmm"))

    def program(self, name, text):
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def run_script(self, script, directory):
        done = subprocess.run(["sh", "-ec", script], cwd=directory, capture_output=True, timeout=600, check=False,
                              env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "VMM_REPOSITORY": ROOT})
        self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout.decode()}\n{done.stderr.decode()}")
        return done.stdout.decode()

    def check_recipe(self, name, source):
        kernel = guest_file("debs/cloud.deb")
        work = os.path.join(self.directory, "work")
        os.makedirs(os.path.join(work, source))
        with open(os.path.join(work, source, "tests.toml"), "w", encoding="utf-8") as file:
            file.write(ci_recipes.section("Several")["toml"])
        opt = os.path.join(self.directory, "opt", "vmm")
        self.program("apt-get", f'echo "apt-get $*" >> {self.bin}/log; '
                     f'case "$*" in download\\ *) cp {kernel} linux-image-6.1.deb;; esac')
        self.program("apt-cache", "echo '  Depends: linux-image-6.1.0-1-cloud-amd64'")
        self.program("git", f'[ "$*" = "clone {ROOT} {opt}" ] && mkdir -p {opt}/ci && ln -s /bin/true {opt}/ci/deps')
        self.program("meson", f'echo "meson $*" >> {self.bin}/log')
        # Ninja knows the targets; nothing is built.
        self.program("ninja", f'[ "$1 $2" = "-C build" ]; shift 2; {shutil.which("ninja")} -n -C {BUILD} "$@"')
        for _, script in ci_recipes.RECIPES[name]():
            self.run_script(script.replace("/opt/vmm", opt), work)
        with open(os.path.join(self.bin, "log"), encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines(),
                             ["apt-get update", "apt-get install -y git busybox-static", "meson setup build",
                              "meson install -C build --no-rebuild", "apt-get download linux-image-6.1.0-1-cloud-amd64"])
        suite, = ElementTree.parse(os.path.join(work, "report.xml")).getroot()
        self.assertEqual((suite.get("tests"), suite.get("failures"), suite.get("errors")), ("2", "0", "0"))

    def test_the_recipe_for_github(self):
        self.check_recipe("GitHub", "source")

    def test_the_recipe_for_gitlab(self):
        self.check_recipe("GitLab", ".")

    def test_the_first_screen(self):
        """From a directory that has the build's programs and guests where the README looks for them."""
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            text = re.sub(r"\\\n *", "", file.read())
        root = os.path.join(self.directory, "root")
        os.makedirs(os.path.join(root, "build"))
        for name in ("vmm", "vmm-nat", "vmm-guest-init"):
            os.symlink(os.path.join(BUILD, name), os.path.join(root, "build", name))
        os.symlink(GUESTS, os.path.join(root, "build", "guests"))
        os.symlink(os.path.join(ROOT, "examples"), os.path.join(root, "examples"))
        guest_file("cloud-vmlinuz")
        command, = re.findall(r"^build/vmm test .*$", text, re.M)
        self.assertRegex(self.run_script(command, root), r"^6\.\S+\n$")
        guest_file("debian.raw")
        command, = re.findall(r"^build/vmm new .*$", text, re.M)
        self.run_script(command, root)
        expected = re.search(r"# web1/vm.toml, as it was made\n(.*?)```", text, re.S)[1]
        with open(os.path.join(root, "web1", "vm.toml"), encoding="utf-8") as file:
            self.assertEqual(file.read(), expected)
        self.assertLessEqual(len(expected.splitlines()), 8)
        self.run_script("build/vmm check web1", root)


if __name__ == "__main__":
    unittest.main()
