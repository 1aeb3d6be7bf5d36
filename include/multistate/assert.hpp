#pragma once

// MULTISTATE_ASSERT(condition, message): the one check inside the decoding step, where nothing may throw. It guards
// against misuse by the calling engine (spans of the wrong size, a forgotten `observe`), never against data.
// It is `assert` unless you define it before the first multistate header; define it alike in every translation unit.
#ifndef MULTISTATE_ASSERT
#include <cassert>
#define MULTISTATE_ASSERT(condition, message) assert((condition) && (message))
#endif
