# find_tool(<variable> <what is tested with it> <names>...): looks for a program that some tests need, also beside the Python that
# runs the tests. Where it is missing those tests are left out, and CMake says so; CI must have everything.
function(find_tool variable what)
  cmake_path(GET Python3_EXECUTABLE PARENT_PATH beside_python)
  find_program(${variable} NAMES ${ARGN} PATHS ${beside_python} NO_CMAKE_FIND_ROOT_PATH)
  mark_as_advanced(${variable})
  if(NOT ${variable})
    list(JOIN ARGN " or " names)
    if($ENV{CI})
      message(FATAL_ERROR "CI has everything: ${names} is missing")
    endif()
    message(STATUS "Not tested, because ${names} is missing: ${what}")
  endif()
endfunction()
