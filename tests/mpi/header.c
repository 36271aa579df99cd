/* The header by itself, on the one process of a program that no launcher has started. */
#define _POSIX_C_SOURCE 200809L
#include "header.h"

int main(int argc, char **argv) { return step_alone(&argc, &argv); }
