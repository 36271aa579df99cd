// The header by itself, in C++.
#include "header.h"

int main(int argc, char **argv) { return step_alone(&argc, &argv); }
