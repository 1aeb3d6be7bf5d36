#define MULTISTATE_ODR_FUNCTION run_without_dots
#include "odr/unit.inc"
