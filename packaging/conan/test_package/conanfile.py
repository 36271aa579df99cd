"""Builds and runs examples-c/consumer over the package."""

import io
import os

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout


class Consumer(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def is_shared(self):
        return bool(self.dependencies["adamw"].options.shared)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False
        toolchain.cache_variables["ADAMW_KIND"] = "shared" if self.is_shared() else "static"
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        for program in ("by_kind", "consumer/consumer", "consumer/consumer_cpp"):
            path = os.path.join(self.cpp.build.bindir, program)
            self.run(path, env="conanrun")
            # A program asks for the library, or has it in itself.
            needed = io.StringIO()
            self.run(f"readelf --dynamic {path}", stdout=needed, quiet=True)
            assert ("libadamw.so.0" in needed.getvalue()) == self.is_shared(), needed.getvalue()
