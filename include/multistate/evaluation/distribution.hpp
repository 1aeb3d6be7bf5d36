#pragma once

// Mean, median and 99th percentile of a sample; and means over equal parts of a text.
//
//     std::vector<double> kl = …;                             // one per token
//     const ms::distribution d = ms::distribution_of(kl);     // reorders kl
//     d.mean, d.median, d.percentile_99
//
//     ms::mean_by_part nll({.parts = 16, .places = 1023});    // 16 equal parts of 1023 places
//     nll.add(place, value);  …  nll.means()                  // [16], NaN where nothing was added
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "multistate/core/errors.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Three numbers that describe a sample; all NaN for an empty sample.
struct distribution {
    double mean = std::numeric_limits<double>::quiet_NaN();
    double median = std::numeric_limits<double>::quiet_NaN();
    double percentile_99 = std::numeric_limits<double>::quiet_NaN();
};

/// The smallest value of the sample that at least `share` of it do not exceed (nearest rank); NaN for an empty sample.
/// Reorders the sample, which must hold no NaN. Throws std::invalid_argument unless `share` is in [0, 1].
inline double quantile(std::span<double> sample, double share) {
    detail::require(share >= 0 && share <= 1, "quantile", "share", "from 0 to 1", share);
    if (sample.empty()) return std::numeric_limits<double>::quiet_NaN();
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sample.size())));
    const std::size_t index = rank == 0 ? 0 : rank - 1;
    const auto at = sample.begin() + static_cast<std::ptrdiff_t>(index);
    std::nth_element(sample.begin(), at, sample.end());
    return *at;
}

/// Reorders the sample, which must hold no NaN. Takes linear time.
inline distribution distribution_of(std::span<double> sample) {
    if (sample.empty()) return {};
    const double sum = std::accumulate(sample.begin(), sample.end(), 0.0);
    return {.mean = sum / static_cast<double>(sample.size()),
            .median = quantile(sample, 0.5),
            .percentile_99 = quantile(sample, 0.99)};
}

/// Means over equal parts of a range of places, such as the positions of a context.
class mean_by_part {
  public:
    struct range {
        std::size_t parts;   ///< equal parts; the number of means
        std::size_t places;  ///< the length of the range: places are 0 to places - 1
    };
    /// Throws std::invalid_argument if a number is 0.
    explicit mean_by_part(range r) : places_(r.places), sums_(r.parts), counts_(r.parts) {
        detail::require(r.parts >= 1, "mean_by_part", "parts", "at least 1", r.parts);
        detail::require(r.places >= 1, "mean_by_part", "places", "at least 1", r.places);
    }

    /// Adds a value to the part of this place. Places beyond the last count as the last.
    void add(std::size_t place, double value) noexcept {
        const std::size_t part = (std::min)(place, places_ - 1) * sums_.size() / places_;
        sums_[part] += value;
        ++counts_[part];
    }
    /// [parts]; NaN where nothing was added.
    std::vector<double> means() const {
        std::vector<double> result;
        for (std::size_t i = 0; i < sums_.size(); ++i) result.push_back(sums_[i] / static_cast<double>(counts_[i]));
        return result;
    }
    /// [parts]; how many values each part has.
    const std::vector<std::size_t>& counts() const noexcept { return counts_; }

  private:
    std::size_t places_;
    std::vector<double> sums_;
    std::vector<std::size_t> counts_;
};

}}  // namespace multistate::MULTISTATE_TARGET
