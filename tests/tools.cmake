# Some tests need tools that not everybody has. Where one is missing, its tests are left out, and CMake says so, as `make test`
# does at its start; CI must have all.
function(report_missing tool what)
  if("$ENV{CI}" STREQUAL true)
    message(FATAL_ERROR "CI has everything, but not ${tool}, which is needed to test ${what}")
  endif()
  message(STATUS "Not tested, because there is no ${tool}: ${what}")
endfunction()

# Looks for a program, also beside the Python that runs the tests, and sets the variable to its path.
function(find_tool variable program what)
  get_filename_component(beside_python "${Python3_EXECUTABLE}" DIRECTORY)
  find_program(${variable} ${program} PATHS ${beside_python} NO_CMAKE_FIND_ROOT_PATH)
  mark_as_advanced(${variable})
  if(NOT ${variable})
    report_missing(${program} ${what})
  endif()
endfunction()

# Sets the variable to whether a command succeeds, which it does where a module of that language is installed.
function(find_module variable module what) # the command
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
  if(status EQUAL 0)
    set(${variable} TRUE PARENT_SCOPE)
  else()
    set(${variable} FALSE PARENT_SCOPE)
    report_missing(${module} ${what})
  endif()
endfunction()
