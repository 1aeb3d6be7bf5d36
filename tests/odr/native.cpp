#define MULTISTATE_ODR_FUNCTION run_native
#include "odr/unit.inc"
