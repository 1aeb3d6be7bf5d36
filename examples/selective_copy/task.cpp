#include "task.hpp"

namespace selective_copy {

training::batch make_batch(const task& t, std::size_t sequences, training::random_source& random) {
    training::batch b;
    b.shape = {.sequences = sequences, .length = t.total()};
    b.tokens.assign(sequences * t.total(), 0);
    b.targets.assign(sequences * t.total(), training::batch::no_target);
    for (std::size_t s = 0; s < sequences; ++s) {
        int* const tokens = b.tokens.data() + s * t.total();
        int* target = b.targets.data() + s * t.total() + t.length;
        std::size_t left = t.data_tokens;
        for (std::size_t i = 0; i < t.length; ++i) {
            if (random.below(t.length - i) >= left) continue;
            --left;
            *target++ = tokens[i] = 1 + static_cast<int>(random.below(t.vocabulary - 2));
        }
        for (std::size_t i = t.length; i < t.total(); ++i) tokens[i] = static_cast<int>(t.vocabulary) - 1;
    }
    return b;
}

}  // namespace selective_copy
