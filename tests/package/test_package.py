#!/usr/bin/env python3
"""Tests of the installed library, as its users have it: found by CMake and by pkg-config, from C and from C++.

    python3 tests/package/test_package.py CMAKE BUILD [unittest arguments]

BUILD is a built tree. It is installed, the installation is moved elsewhere, and the examples are built against it and run with
the model that the installed tool itself finds ($RASURE_MODEL or the default). The same with a library whose third parties, PCRE2
too, are built along with it, as for a toolchain that nothing was set up for. Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
EXAMPLES = REPO / "examples"
SOURCES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rasure" / "sources"
CMAKE, BUILD = "cmake", Path("build/release")


def run(*command: object, **environment: object) -> str:
    done = subprocess.run([str(part) for part in command], env={**os.environ, **{k: str(v) for k, v in environment.items()}},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def setting(name: str) -> str:
    """Of the built tree's cache; empty where it has none."""
    for line in (BUILD / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition("=")[2]
    return ""


def local_sources() -> list[str]:
    """The options that put what setup.sh has unpacked in the place of downloads; of what it has not, none."""
    options = {}
    for line in (REPO / "cmake" / "third_party.txt").read_text().splitlines():
        name, commit = [*line.split(), "", ""][:2]
        folder = SOURCES / f"{name}-{commit[:8]}"
        if not name.startswith("#") and folder.is_dir():
            options[name] = f"-DFETCHCONTENT_SOURCE_DIR_{name.upper()}={folder}"
    return list(options.values())


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run(CMAKE, "--install", BUILD, "--prefix", cls.folder / "staged")
        cls.prefix = (cls.folder / "staged").rename(cls.folder / "installed")
        (description,) = cls.prefix.rglob("rasure.pc")
        cls.model = json.loads(run(cls.prefix / "bin" / "rasure", "info", "--json"))["model"]["path"]
        cls.pkg_config_path = f"{description.parent}:{os.environ.get('PKG_CONFIG_PATH', '')}"

    def flags(self, *options: str) -> list[str]:
        return run("pkg-config", *options, "rasure", PKG_CONFIG_PATH=self.pkg_config_path).split()

    def build(self, example: str, tree: Path, prefix: Path) -> Path:
        run(CMAKE, "-S", EXAMPLES / example, "-B", tree, "-G", setting("CMAKE_GENERATOR"), f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_C_COMPILER={setting('CMAKE_C_COMPILER')}")  # fmt: skip
        run(CMAKE, "--build", tree)
        return tree / example

    def forgets(self, program: Path) -> None:
        before, after = run(program, self.model).splitlines()
        self.assertIn("Rome", before)
        self.assertIn("Oslo", after)
        self.assertNotIn("Rome", after)

    def test_cmake(self) -> None:
        self.forgets(self.build("hello", self.folder / "hello", self.prefix))

    def test_agent(self) -> None:
        """The secret is said once, and not after it was taken back."""
        text = run(self.build("agent", self.folder / "agent", self.prefix), self.model)
        before, after = text.split("(the tool's answer is taken back)")
        self.assertIn("9922", before)
        self.assertNotIn("9922", after)
        self.assertRegex(after, r"turns of \d+ tokens forgotten, [1-9]\d* tokens encoded again")
        self.assertIn("Paris", after)

    def test_from_sources(self) -> None:
        options = local_sources()
        if not any("PCRE2" in option for option in options):
            self.skipTest("scripts/setup.sh has brought no source of PCRE2 (--cross does)")
        tree, prefix = self.folder / "sources", self.folder / "from_sources"
        run(CMAKE, "-S", REPO, "-B", tree, "-G", setting("CMAKE_GENERATOR"), f"-DCMAKE_C_COMPILER={setting('CMAKE_C_COMPILER')}",
            "-DRASURE_XNNPACK=OFF", "-DRASURE_BUILD_TESTS=OFF", "-DRASURE_BUILD_EXAMPLES=OFF", *options)  # fmt: skip
        run(CMAKE, "--build", tree)
        run(CMAKE, "--install", tree, "--prefix", prefix)
        self.assertTrue(list(prefix.rglob("libpcre2-8.a")))
        self.forgets(self.build("hello", self.folder / "hello_from_sources", prefix))

    def test_pkg_config(self) -> None:
        program = self.folder / "hello_pkg_config"
        run(setting("CMAKE_C_COMPILER"), EXAMPLES / "hello" / "hello.c", *self.flags("--cflags", "--libs"), "-o", program)
        self.forgets(program)

    def test_cplusplus(self) -> None:
        compiler = shutil.which("c++")
        if compiler is None:
            self.skipTest("there is no C++ compiler")
        source, program = self.folder / "hello.cpp", self.folder / "hello_cplusplus"
        source.write_text("#include <rasure/rasure.h>\nint main() { return rs_sampler_default_params().temperature != 0; }\n")
        run(compiler, "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", source, *self.flags("--cflags", "--libs"),
            "-o", program)  # fmt: skip
        run(program)

    def test_nothing_else_is_installed(self) -> None:
        """One header, its module map, and no path of the tree that it was built in."""
        installed = sorted(path.name for path in (self.prefix / "include").rglob("*") if path.is_file())
        self.assertEqual(installed, ["module.modulemap", "rasure.h"])
        for path in self.prefix.rglob("*"):
            if path.suffix in (".cmake", ".pc"):
                self.assertNotIn(str(REPO), path.read_text(), path)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    CMAKE, BUILD = sys.argv[1], Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
