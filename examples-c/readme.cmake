# README.md opens with minimal.c, word for word, and minimal.c stays under 50 lines.
file(READ ${CMAKE_CURRENT_LIST_DIR}/minimal.c program)
string(REGEX REPLACE "[^\n]" "" newlines "${program}")
string(LENGTH "${newlines}" lines)
if(NOT lines LESS 50)
  message(FATAL_ERROR "minimal.c has ${lines} lines")
endif()

file(READ ${CMAKE_CURRENT_LIST_DIR}/../README.md readme)
string(FIND "${readme}" "```c\n" first_block)
string(FIND "${readme}" "```c\n${program}```\n" block_with_program)
if(first_block EQUAL -1 OR NOT first_block EQUAL block_with_program)
  message(FATAL_ERROR "The first ```c block of README.md is not examples-c/minimal.c")
endif()
