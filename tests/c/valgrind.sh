#!/bin/sh
# Runs a program under valgrind's memcheck: no bad access, and no block of memory that nothing points to any more.
# usage: valgrind.sh <program> [arguments]
exec valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$@"
