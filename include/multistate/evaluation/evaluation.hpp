#pragma once

// Numbers that say what forgetting costs: spans in, numbers out. No text, no model. examples/perplexity prints them.
//
//     #include <multistate/evaluation/evaluation.hpp>         // not part of multistate.hpp
//
//     ms::percent_above({.measured = tova, .baseline = full}) // perplexity.hpp: by sequence, with standard error
//     ms::divergence_of({full_logits, logits}, next_token)    // divergence.hpp: KL, same top token, probability
//     ms::distribution_of(kl)                                 // distribution.hpp: mean, median, 99 %; mean by place
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
