#define MULTISTATE_ODR_FUNCTION run_baseline
#include "odr/unit.inc"
