#define SUPPORT_ANY_POLICY
#include "support/any_policy.hpp"
