#undef MULTISTATE_CHECKS
#define MULTISTATE_CHECKS 0
#define MULTISTATE_ODR_FUNCTION run_unchecked
#include "odr/unit.inc"
