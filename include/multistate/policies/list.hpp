#pragma once

// The list of every policy in the library. A new method is one new file in policies/ and one line here. Tests, benches
// and the demo iterate over this list.
//
//     ms::cache<ms::any_policy> cache(shape, ms::any_policy::named("tova"));
//     ms::cache<ms::any_policy> cache(shape, ms::h2o_grace::make());           // a named preset, by its type
//
// A method without code of its own (other parameters of a policy, or a composition) is a named preset below.
#include <algorithm>

#include "multistate/modifiers/decayed.hpp"
#include "multistate/policies/cake.hpp"
#include "multistate/policies/cake_prompt.hpp"
#include "multistate/policies/cam.hpp"
#include "multistate/policies/caote.hpp"
#include "multistate/policies/capkv.hpp"
#include "multistate/policies/chunkkv.hpp"
#include "multistate/policies/citrus.hpp"
#include "multistate/policies/citrus_probe.hpp"
#include "multistate/policies/compactor.hpp"
#include "multistate/policies/criticalkv.hpp"
#include "multistate/policies/cur.hpp"
#include "multistate/policies/d2o.hpp"
#include "multistate/policies/defensivekv.hpp"
#include "multistate/policies/expected_attention.hpp"
#include "multistate/policies/full.hpp"
#include "multistate/policies/given.hpp"
#include "multistate/policies/h2o.hpp"
#include "multistate/policies/h2o_layer.hpp"
#include "multistate/policies/h2o_normalized.hpp"
#include "multistate/policies/keydiff.hpp"
#include "multistate/policies/keyformer.hpp"
#include "multistate/policies/knorm.hpp"
#include "multistate/policies/lagkv.hpp"
#include "multistate/policies/leverage.hpp"
#include "multistate/policies/morphkv.hpp"
#include "multistate/policies/noncausal.hpp"
#include "multistate/policies/observed_attention.hpp"
#include "multistate/policies/q_filters.hpp"
#include "multistate/policies/r_kv.hpp"
#include "multistate/policies/random.hpp"
#include "multistate/policies/roco.hpp"
#include "multistate/policies/scissorhands.hpp"
#include "multistate/policies/snapkv.hpp"
#include "multistate/policies/tova.hpp"
#include "multistate/policies/tova_head.hpp"
#include "multistate/policies/triattention.hpp"
#include "multistate/policies/value_merge.hpp"
#include "multistate/policies/vatp.hpp"
#include "multistate/policies/window.hpp"
#include "multistate/policy/one_of.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

// tova_kvpress: tova that always keeps the newest state.
//
//   paper    TOVAPress of NVIDIA kvpress, after "Transformers are Multi-State RNNs", arXiv 2401.06104
//   rule     score[j] = mean of a[i][t][j] over all query heads i of the layer, for the current token t only. The score
//            kept is the sum, which gives the same order.
//   reads    the attention probabilities of the newest token
//   forgets  for the layer; the newest state is guarded unless the user names another `recent`
//   cost     one addition per probability, one pass to decide
//   differs  kvpress decides once, at the end of the prompt (that is `block` prefill here) or every so many tokens, and
//            gives the newest state the greatest score instead of a guard. With one state, nothing is guarded.
struct tova_kvpress {
    static constexpr std::string_view name = "tova_kvpress";
    static constexpr std::string_view paper = "arXiv 2401.06104";
    static constexpr tova make() noexcept { return {.recent_at_most = 1}; }
};

// h2o_decayed: h2o with fading old attention, so that recent attention determines a state's worth.
//
//   paper    "A2SF: Accumulative Attention Scoring with Forgetting Factor for Token Pruning in Transformer Decoder",
//            arXiv 2407.20485
//   rule     score[j] = sum of decay^n a[i][t][j] over the query heads i of the group and all tokens t since j's own, n
//            = the number of these tokens after t
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest floor(states / 2) are guarded unless the user names another `recent`
//   cost     h2o's, and one multiplication per state and token
//   differs  see modifiers/decayed.hpp. The guard is h2o's, so decay 1 is h2o; decay 0 with recent 0 is tova_head.
//            EasyKV guarded the newest 0.3 of the states; the paper's guard is not known here.
struct h2o_decayed {
    static constexpr std::string_view name = "h2o_decayed";
    static constexpr std::string_view paper = "arXiv 2407.20485";
    static constexpr composed<h2o, decayed> make() noexcept { return {}; }
};

// h2o_grace: h2o with a short grace for new states instead of the recent half, and with fading old attention.
//
//   paper    none: VeloxQuant-MLX, pull request 141, after H2O (arXiv 2306.14048)
//   rule     score[j] = sum of decay^n a[i][t][j] over the query heads i of the group and all tokens t since j's own, n
//            = the number of these tokens after t
//   reads    the attention probabilities of every token
//   forgets  for each KV head; the newest min(16, states / 2) are guarded unless the user names another `recent`
//   cost     h2o's, and one multiplication per state and token
//   differs  only the pull request's description was read. There a new state was forgotten at once, so the prompt
//            stayed forever, until 16 states of grace and decay 0.98 fixed it. Here, below 32 states, the grace is half
//            of them: 16 of 17 would be a window.
struct h2o_grace {
    static constexpr std::string_view name = "h2o_grace";
    static constexpr std::string_view paper = "VeloxQuant-MLX, pull request 141";
    static constexpr composed<h2o, decayed> make() noexcept { return {h2o{.recent_at_most = 16}, decayed{}}; }
};

// h2o_local: h2o without a recent half: only the heavy hitters and the token that attends.
//
//   paper    local_heavy_hitter_mask in the authors' code for "H2O: Heavy-Hitter Oracle for Efficient Generative
//            Inference of Large Language Models", arXiv 2306.14048
//   rule     score[j] = sum of a[i][t][j] over the query heads i of the group and all tokens t since j's own
//   reads    the attention probabilities of every token
//   forgets  for each KV head; no state is guarded
//   cost     one addition per probability, one pass to decide
//   differs  that mask lets a token see itself and the heavy_budget - 1 states with the greatest sums: `states` is
//            heavy_budget - 1, and the state that attended last may be forgotten at once, as there. So new states
//            rarely stay and the kept set freezes; the preset exists to show this. The code sums probabilities of
//            attention to all tokens, kept or not, for each query head, and joins the mask with a window (`recent`).
//            Sums stop growing as in h2o.
struct h2o_local {
    static constexpr std::string_view name = "h2o_local";
    static constexpr std::string_view paper = "arXiv 2306.14048";
    static constexpr h2o make() noexcept { return {.recent_at_most = 0}; }
};

/// Any policy of the list, chosen at run time: any_policy::named("tova").
// clang-format off
using any_policy = one_of<
    full, window, random, given,
    tova, tova_head, tova_kvpress, caote,
    h2o, h2o_layer, h2o_normalized, h2o_decayed, h2o_grace, h2o_local, observed_attention,
    vatp, scissorhands, roco, keyformer,
    morphkv, snapkv, criticalkv, defensivekv, chunkkv, cake, cake_prompt, citrus, citrus_probe,
    knorm, keydiff, lagkv, cur, leverage, noncausal, compactor, q_filters, expected_attention, capkv,
    triattention, r_kv,
    cam, d2o, value_merge>;
// clang-format on

}}  // namespace multistate::MULTISTATE_TARGET
