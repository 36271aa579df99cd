"""The library as a package of Conan 2, from the source around this recipe.

Needs cargo and CMake in PATH. Targets are named as in the library's own package of CMake:
adamw::adamw, which is adamw::shared or adamw::static.
"""

import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rm, rmdir

# What cargo and CMake read of the source.
SOURCE = (
    "Cargo.*",
    "CMakeLists.txt",
    "LICENSE-*",
    "benches/*",
    "build.rs",
    "cmake/*",
    "include/*",
    "rust-toolchain.toml",
    "src/*",
    "tests/cuda-standin/*",
)


class Adamw(ConanFile):
    name = "adamw"
    description = "AdamW as a C library"
    license = "MIT OR Apache-2.0"
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False]}
    default_options = {"shared": True}
    languages = "C"

    def set_version(self):
        cargo = load(self, os.path.join(self.recipe_folder, "..", "..", "Cargo.toml"))
        self.version = re.search(r'(?m)^version = "(.*)"', cargo)[1]

    def export_sources(self):
        root = os.path.join(self.recipe_folder, "..", "..")
        for pattern in SOURCE:
            copy(self, pattern, root, self.export_sources_folder)

    def validate(self):
        if self.settings.os != "Linux" or self.settings.arch not in ("x86_64", "armv8"):
            raise ConanInvalidConfiguration("libadamw runs on Linux, on x86-64 and aarch64")

    def layout(self):
        cmake_layout(self)

    def package_id(self):
        # cargo builds a release whatever compiler links it.
        self.info.settings.rm_safe("compiler")
        self.info.settings.rm_safe("build_type")

    def generate(self):
        target = os.path.join(self.build_folder, "target")
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["ADAMW_BUILD_TESTS"] = False
        toolchain.cache_variables["ADAMW_BUILD_EXAMPLES"] = False
        toolchain.cache_variables["ADAMW_CARGO_TARGET_DIR"] = target
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        licenses = os.path.join(self.package_folder, "licenses")
        copy(self, "LICENSE-*", self.source_folder, licenses)
        # Conan describes the package, which has one kind of library.
        for folder in ("share", "lib/cmake", "lib/pkgconfig"):
            rmdir(self, os.path.join(self.package_folder, folder))
        other = "*.a" if self.options.shared else "*.so*"
        rm(self, other, os.path.join(self.package_folder, "lib"))

    def package_info(self):
        kind = "shared" if self.options.shared else "static"
        self.cpp_info.set_property("cmake_target_name", "adamw::adamw")
        self.cpp_info.set_property("cmake_target_aliases", [f"adamw::{kind}"])
        self.cpp_info.set_property("cmake_components", [kind])
        self.cpp_info.set_property("pkg_config_name", "adamw")
        self.cpp_info.libs = ["adamw"]
        if not self.options.shared:
            self.cpp_info.system_libs = ["pthread", "dl", "m"]
