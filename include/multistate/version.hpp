#pragma once

// The library's version. CMake reads the same three numbers.
//
//     std::puts("multistate " MULTISTATE_VERSION);
#define MULTISTATE_VERSION_MAJOR 0
#define MULTISTATE_VERSION_MINOR 5
#define MULTISTATE_VERSION_PATCH 0
#define MULTISTATE_VERSION "0.5.0"
