# Finds cargo, builds libadamw.so and libadamw.a with it, and defines the targets.

# cargo's own complaint about an edition that it does not know would lead nowhere.
file(STRINGS Cargo.toml rust_version REGEX "^rust-version = ")
string(REGEX MATCH "[0-9.]+" rust_version "${rust_version}")
set(install_rust "Install Rust ${rust_version} or later with rustup (https://rustup.rs), or name its cargo by -DADAMW_CARGO=<path>.")
find_program(ADAMW_CARGO cargo
  PATHS $ENV{CARGO_HOME}/bin $ENV{HOME}/.cargo/bin NO_CMAKE_FIND_ROOT_PATH
  DOC "The cargo to build with")
if(NOT ADAMW_CARGO)
  message(FATAL_ERROR "libadamw is built by Rust's cargo, which is not in PATH. ${install_rust}")
endif()
execute_process(COMMAND ${ADAMW_CARGO} --version
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE cargo_version ERROR_VARIABLE cargo_error RESULT_VARIABLE status)
if(NOT cargo_version MATCHES "^cargo ([0-9.]+)")
  message(FATAL_ERROR
    "libadamw is built by Rust's cargo, and `${ADAMW_CARGO} --version` fails: ${status}. ${install_rust}\n${cargo_error}")
elseif(CMAKE_MATCH_1 VERSION_LESS rust_version)
  message(FATAL_ERROR "libadamw needs Rust ${rust_version}, and ${ADAMW_CARGO} is of ${CMAKE_MATCH_1}. ${install_rust}")
endif()

set(ADAMW_CARGO_FLAGS "" CACHE STRING "More arguments for cargo build, such as --offline")
set(ADAMW_CARGO_TARGET_DIR ${PROJECT_SOURCE_DIR}/target CACHE PATH "Where cargo builds; by default it shares cargo's own")
set(built ${ADAMW_CARGO_TARGET_DIR}/release)
set(cargo_environment CARGO_TARGET_DIR=${ADAMW_CARGO_TARGET_DIR})
if(ADAMW_DEBUG_INFO)
  list(APPEND cargo_environment CARGO_PROFILE_RELEASE_DEBUG=line-tables-only)
  set(copy_static ${CMAKE_COMMAND} -E copy ${built}/libadamw.a)
else()
  # Rust's standard library brings debug information of its own, which cargo leaves in archives.
  set(copy_static ${CMAKE_STRIP} --strip-debug --enable-deterministic-archives ${built}/libadamw.a -o)
endif()

# cargo builds one libadamw.so, whose SONAME is libadamw.so.<major>. Programs look for that name at run time, so the library
# is placed in lib/ under the three names that a shared library has on Linux. cargo itself decides what is out of date.
set(lib ${PROJECT_BINARY_DIR}/lib)
set(soname libadamw.so.${PROJECT_VERSION_MAJOR})
set(shared_file libadamw.so.${PROJECT_VERSION})
file(MAKE_DIRECTORY ${lib})
add_custom_target(adamw_cargo ALL
  COMMAND ${CMAKE_COMMAND} -E env ${cargo_environment} ${ADAMW_CARGO} build --release --locked --lib ${ADAMW_CARGO_FLAGS}
  COMMAND ${copy_static} ${PROJECT_BINARY_DIR}/libadamw.a
  COMMAND ${CMAKE_COMMAND} -E copy_if_different ${PROJECT_BINARY_DIR}/libadamw.a ${lib}/libadamw.a
  COMMAND ${CMAKE_COMMAND} -E copy_if_different ${built}/libadamw.so ${lib}/${shared_file}
  COMMAND ${CMAKE_COMMAND} -E create_symlink ${shared_file} ${lib}/${soname}
  COMMAND ${CMAKE_COMMAND} -E create_symlink ${soname} ${lib}/libadamw.so
  BYPRODUCTS ${lib}/libadamw.a ${lib}/${shared_file} ${lib}/${soname} ${lib}/libadamw.so ${PROJECT_BINARY_DIR}/libadamw.a
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
  COMMENT "cargo build --release"
  COMMAND_EXPAND_LISTS VERBATIM)

# What `rustc --print native-static-libs` names, without what every C compiler adds by itself: libc, and the libgcc_s or
# libgcc_eh that a program can have. They come after the archive.
set(system_libraries pthread dl m)

# Imported targets, as those of the installed package are: a project can export and install its own libraries that link them.
add_library(adamw::shared SHARED IMPORTED GLOBAL)
set_target_properties(adamw::shared PROPERTIES IMPORTED_LOCATION ${lib}/${shared_file} IMPORTED_SONAME ${soname})
add_library(adamw::static STATIC IMPORTED GLOBAL)
set_target_properties(adamw::static PROPERTIES
  IMPORTED_LOCATION ${lib}/libadamw.a
  IMPORTED_LINK_INTERFACE_LANGUAGES C
  INTERFACE_LINK_LIBRARIES "${system_libraries}")
foreach(target adamw::shared adamw::static)
  target_include_directories(${target} INTERFACE ${PROJECT_SOURCE_DIR}/include)
  add_dependencies(${target} adamw_cargo)
endforeach()
if(BUILD_SHARED_LIBS)
  add_library(adamw::adamw ALIAS adamw::shared)
  set(library libadamw.so)
else()
  add_library(adamw::adamw ALIAS adamw::static)
  set(library libadamw.a)
endif()
