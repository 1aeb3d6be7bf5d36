// What the metadata of a GGUF file say of a Llama, or of one whose heads are partly replaced by recurrent cells
// (architecture recurformer, ../recurformer), and whether this demo can run it.
//
//     std::vector<std::string> notes;
//     const demo::llama_config c = demo::read_llama_config(file, notes);  // throws gguf_error
//
// Every key under "llama." (or "recurformer.") is applied, or is known to change nothing, or is refused by name; a key
// that is not known is refused where it belongs to attention or RoPE, and noted elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gguf.hpp"

namespace demo {

/// How positions beyond the trained length are brought into it. Pair i turns by f per position, f its frequency without
/// scaling: linear makes it f / factor; YaRN (arXiv 2309.00071) keeps fast pairs, divides slow ones, and mixes between.
struct rope_scaling {
    double factor = 1;
    bool yarn = false;
    double original_length = 0;  ///< YaRN only: tokens, before scaling
    double beta_fast = 32;       ///< YaRN only: pairs that turn more often than this in original_length are kept
    double beta_slow = 1;        ///< YaRN only: pairs that turn less often than this are divided
    double magnitude = 1;        ///< rotated elements of queries and keys are multiplied by it
};

/// Query heads that recurrent cells serve: one cell in each layer that has some.
struct replaced_heads {
    bool selective = false;  ///< the cell: selective, or min_gru
    // of selective
    std::size_t expansion = 0;  ///< units of a cell for each number that it writes
    std::size_t state_size = 0;
    std::size_t convolution = 0;
    std::size_t delta_rank = 0;
    std::vector<std::size_t> heads{};  ///< layer * heads + head, rising

    /// Those of layer i, counted from the first of the layer.
    [[nodiscard]] std::vector<std::size_t> of_layer(std::size_t i, std::size_t heads_of_layer) const;
};

struct llama_config {
    std::size_t width;
    std::size_t layers;
    std::size_t heads;
    std::size_t kv_heads;
    std::size_t key_dim;    ///< of one head
    std::size_t value_dim;  ///< of one head
    std::size_t feed_forward;
    std::size_t vocabulary;
    float norm_epsilon;
    std::size_t rope_dim;  ///< leading elements of a head that are rotated
    double rope_base;
    rope_scaling scaling;
    std::optional<replaced_heads> replaced;  ///< of a recurformer
};

/// Adds to `notes` what the reader of results should know: what is in the file and ignored.
[[nodiscard]] llama_config read_llama_config(const gguf& file, std::vector<std::string>& notes);

/// The length that the model was made for; 0 if the file names none.
[[nodiscard]] std::uint64_t trained_length(const gguf& file);

/// Throws if a sequence of the demo's usual length needs more memory than a file of this size may ask for: heads and
/// widths cost memory for each token, and a width of a few numbers makes their weights small. To be asked once all
/// tensors are known to have their shapes, and before memory is.
void refuse_excess(const gguf& file, const llama_config& c);

/// Radians per position of each pair [rope_dim / 2]; `factors`, if any, divide them first (Llama 3).
[[nodiscard]] std::vector<double> rope_frequencies(const llama_config& c, const std::vector<float>& factors);

}  // namespace demo
