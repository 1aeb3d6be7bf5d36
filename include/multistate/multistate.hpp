#pragma once

// The whole library but reference_attention.hpp, which needs Eigen.
// IWYU pragma: begin_exports
#include "multistate/attention.hpp"
#include "multistate/cache.hpp"
#include "multistate/codec.hpp"
#include "multistate/executor.hpp"
#include "multistate/one_of.hpp"
#include "multistate/policies.hpp"
#include "multistate/policy.hpp"
#include "multistate/prefill.hpp"
#include "multistate/select.hpp"
#include "multistate/shape.hpp"
#include "multistate/softmax.hpp"
#include "multistate/table.hpp"
#include "multistate/target.hpp"
#include "multistate/version.hpp"
#include "multistate/workspace.hpp"
// IWYU pragma: end_exports
