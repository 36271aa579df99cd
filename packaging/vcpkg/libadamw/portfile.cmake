# The source around this port.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

# cargo builds a release, and that only: programs of either kind link it.
set(VCPKG_BUILD_TYPE release)
set(VCPKG_POLICY_MISMATCHED_NUMBER_OF_BINARIES enabled)
vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DADAMW_BUILD_TESTS=OFF
        -DADAMW_BUILD_EXAMPLES=OFF
        "-DADAMW_CARGO_TARGET_DIR=${CURRENT_BUILDTREES_DIR}/cargo"
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME adamw CONFIG_PATH lib/cmake/adamw)
vcpkg_fixup_pkgconfig()

# A triplet has one kind of library.
if(VCPKG_LIBRARY_LINKAGE STREQUAL "static")
    file(GLOB other "${CURRENT_PACKAGES_DIR}/lib/libadamw.so*")
else()
    set(other "${CURRENT_PACKAGES_DIR}/lib/libadamw.a")
endif()
file(REMOVE ${other})

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/licenses")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE-MIT" "${SOURCE_PATH}/LICENSE-APACHE")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
