#pragma once

// The library's version, for `#if` and for people. CMake reads the same three numbers.
#define MULTISTATE_VERSION_MAJOR 0
#define MULTISTATE_VERSION_MINOR 2
#define MULTISTATE_VERSION_PATCH 0
#define MULTISTATE_VERSION "0.2.0"
