# What `cmake --install` puts where: both libraries, the headers, the packages of CMake and pkg-config, the licences.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/adamw)
set(runtime COMPONENT adamw_runtime)
set(development COMPONENT adamw_development)

install(FILES ${lib}/${shared_file} ${lib}/${soname} DESTINATION ${CMAKE_INSTALL_LIBDIR} ${runtime})
install(FILES ${lib}/libadamw.so ${lib}/libadamw.a DESTINATION ${CMAKE_INSTALL_LIBDIR} ${development})
install(FILES include/adamw.h include/adamw.hpp include/adamw_mpi.h include/adamw.cffi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} ${development})
install(FILES include/adamw/libtorch.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/adamw ${development})
install(FILES LICENSE-MIT LICENSE-APACHE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/licenses/adamw ${runtime})

if(ADAMW_MAN_PAGES)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} tools/docs/man.py include/adamw.h ${PROJECT_VERSION} ${PROJECT_BINARY_DIR}/man
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMAND_ERROR_IS_FATAL ANY)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS include/adamw.h tools/docs/man.py)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR} ${development})
endif()

# `cmake --install --strip` strips what CMake has linked, and no other file.
function(strip_installed file component)
  install(CODE "
    if(CMAKE_INSTALL_DO_STRIP)
      set(folder ${CMAKE_INSTALL_LIBDIR})
      cmake_path(ABSOLUTE_PATH folder BASE_DIRECTORY \${CMAKE_INSTALL_PREFIX})
      execute_process(COMMAND ${CMAKE_STRIP} ${ARGN} \$ENV{DESTDIR}\${folder}/${file} COMMAND_ERROR_IS_FATAL ANY)
    endif()" ${component})
endfunction()
strip_installed(${shared_file} "${runtime}")
strip_installed(libadamw.a "${development}" --strip-debug --enable-deterministic-archives)

configure_package_config_file(cmake/adamwConfig.cmake.in ${PROJECT_BINARY_DIR}/adamwConfig.cmake
  INSTALL_DESTINATION ${package}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/adamwConfigVersion.cmake
  COMPATIBILITY SameMajorVersion) # as the SONAME promises
install(FILES ${PROJECT_BINARY_DIR}/adamwConfig.cmake ${PROJECT_BINARY_DIR}/adamwConfigVersion.cmake
  DESTINATION ${package} ${development})

# The package of pkg-config finds everything from where it is itself, so that an installation can be moved. In /usr it names
# that folder: pkg-config knows it, and leaves out of its flags what compilers search anyway.
set(pkgconfig ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(pc_prefix /usr)
if(NOT CMAKE_INSTALL_PREFIX STREQUAL pc_prefix)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE up)
  set(pc_prefix "\${pcfiledir}/${up}")
endif()
set(pc_includedir "\${prefix}")
set(pc_libdir "\${prefix}")
cmake_path(APPEND pc_includedir ${CMAKE_INSTALL_INCLUDEDIR})
cmake_path(APPEND pc_libdir ${CMAKE_INSTALL_LIBDIR})
list(TRANSFORM system_libraries PREPEND -l OUTPUT_VARIABLE pc_private)
list(JOIN pc_private " " pc_private)
configure_file(cmake/adamw.pc.in ${PROJECT_BINARY_DIR}/adamw.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/adamw.pc DESTINATION ${pkgconfig} ${development})

if(PROJECT_IS_TOP_LEVEL)
  add_custom_target(uninstall
    COMMAND ${CMAKE_COMMAND} -D MANIFEST=${PROJECT_BINARY_DIR}/install_manifest.txt
            -P ${PROJECT_SOURCE_DIR}/cmake/uninstall.cmake
    VERBATIM)
endif()
