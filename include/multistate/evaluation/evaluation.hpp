#pragma once

// Measures of what forgetting costs: spans in, numbers out. They know no text and no model. examples/perplexity prints
// them.
//
//     #include <multistate/evaluation/evaluation.hpp>         // not part of multistate.hpp
//
//     ms::percent_above({.measured = tova, .baseline = full}) // perplexity.hpp: by sequence, with standard error
//     ms::divergence_of({full_logits, logits}, next_token)    // divergence.hpp: KL, same top token, probability
//     ms::distribution_of(kl)                                 // distribution.hpp: mean, median, 99th percentile
//     ms::mean_by_part                                        // distribution.hpp: means over equal parts of a text
//     ms::agreement                                           // retention.hpp: the states that two policies share
//     ms::lifetimes                                           // lifetimes.hpp: how long each state was held
//     ms::attention_oracle                                    // oracle.hpp: forgets by the attention still to come
// IWYU pragma: begin_exports
#include "multistate/evaluation/distribution.hpp"
#include "multistate/evaluation/divergence.hpp"
#include "multistate/evaluation/lifetimes.hpp"
#include "multistate/evaluation/oracle.hpp"
#include "multistate/evaluation/perplexity.hpp"
#include "multistate/evaluation/retention.hpp"
// IWYU pragma: end_exports
