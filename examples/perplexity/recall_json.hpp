// Recall in a file of results, and the settings there.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "results.hpp"

namespace demo {

/// The members policy, states and codec of a run, which was measured as `about` says.
[[nodiscard]] setting setting_from(const nlohmann::ordered_json& j, const provenance& about);

/// One cell for each run, kind, length and depth; `measurable` says whether the full cache finds enough there. Then the
/// repeats, for each run the likelihoods of all, and for each group of distances the gain; null if not measurable.
[[nodiscard]] nlohmann::ordered_json in_json(const recall_results& all);
[[nodiscard]] nlohmann::ordered_json in_json(const repeat_results& all);
/// Throws what nlohmann::json throws, and std::runtime_error with a sentence.
[[nodiscard]] recall_results recall_from(const nlohmann::ordered_json& j, const provenance& about);

}  // namespace demo
