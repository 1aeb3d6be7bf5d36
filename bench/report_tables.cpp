#include "report_tables.hpp"

namespace bench {
namespace {

const std::vector<column> beside_rivals{
    {"ns", "µs per token-layer", 1e-3, 0}, {"bytes/s", "GB/s", 1e-9, 1}, {"percent_of_read", "percent_of_read", 1, 0},
    {"memcpy/step", "memcpy/step"},        {"eigen/step", "eigen/step"}, {"reference/step", "reference/step"},
};

}  // namespace

const std::vector<family>& families() {
    static const std::vector<family> all{
        {.name = "memory",
         .title = "Memory",
         .parts = {"how", "where"},
         .columns = {{"bytes/s", "GB/s", 1e-9, 1}, {"probe/ours", "probe/this"}}},
        {.name = "step_and_rivals",
         .title = "A step beside its rivals",
         .parts = {"codec", "heads", "states"},
         .columns = beside_rivals},
        {.name = "step",
         .title = "A step over attention alone",
         .parts = {"policy", "codec", "heads", "states"},
         .columns = {{"step/attention", "", 1, 3}},
         .first_part_across = true},
        {.name = "policy",
         .title = "What each policy costs",
         .parts = {"policy", "states", "slack"},
         .columns = {{"step_us", "µs per step", 1, 0},
                     {"attention_us", "µs of attention", 1, 0},
                     {"step/attention", "step/attention", 1, 3},
                     {"bytes", "bytes of its own per state", 1, 1}},
         .first_part_across = false,
         .note =
             "`lagkv`, `cur`, `leverage`, `noncausal` and `compactor` work when a piece of the text has ended, which "
             "few turns of theirs see with a slack of 0 or 31: what they cost a token is what the third line says, "
             "with any slack."},
        {.name = "head_dim",
         .title = "Other head dimensions",
         .parts = {"codec", "heads", "states", "head_dim"},
         .columns = beside_rivals},
        {.name = "group",
         .title = "Query heads per KV head",
         .parts = {"codec", "heads", "states", "group"},
         .columns = beside_rivals},
        {.name = "batch",
         .title = "As many sequences as fit into a fixed memory",
         .parts = {"policy", "codec", "heads", "states"},
         .columns = {{"sequences", "sequences", 1, 0},
                     {"full_sequences", "full: sequences", 1, 0},
                     {"tokens/s", "tokens/s", 1, 0},
                     {"full_tokens/s", "full: tokens/s", 1, 0},
                     {"full/ours", "throughput over full"},
                     {"percent_of_read", "percent_of_read", 1, 0},
                     {"memcpy/ours", "memcpy/step"},
                     {"eigen/ours", "eigen/step"}},
         .first_part_across = false,
         .note =
             "The paper's whole model, with a batch of 8 for `full`: 1.7, 3.1, 4.8 and 8.5 times the throughput with "
             "2048, 1024, 512 and 256 states."},
        {.name = "prefill",
         .title = "Prefill: 512 tokens",
         .parts = {"policy", "codec", "heads", "states", "head_dim"},
         .columns = {{"tokens/s", "exact tokens/s", 1, 0},
                     {"block_tokens/s", "block tokens/s", 1, 0},
                     {"step_tokens/s", "single steps tokens/s", 1, 0},
                     {"block_flop/s", "block GFLOP/s", 1e-9, 1},
                     {"eigen_flop/s", "Eigen GFLOP/s", 1e-9, 1},
                     {"exact/block", "exact/block"},
                     {"steps/exact", "steps/exact"},
                     {"eigen/block", "eigen/block"},
                     {"percent_of_read", "percent_of_read", 1, 1},
                     {"memcpy/block", "memcpy/block", 1, 3}}},
        {.name = "threads",
         .title = "Two threads",
         .parts = {"what", "codec", "heads", "states"},
         .columns = {{"ns", "µs", 1e-3, 0},
                     {"serial/shared", "serial/shared"},
                     {"probe/shared_probe", "the same for the probe"},
                     {"percent_of_gain", "percent_of_gain", 1, 0}}},
        {.name = "softmax",
         .title = "Softmax",
         .parts = {"n"},
         .columns = {{"ns/element", "ns/element"},
                     {"eigen/ours", "eigen/ours"},
                     {"scalar/ours", "scalar/ours"},
                     {"read/ours", "read/ours", 1, 3},
                     {"memcpy/ours", "memcpy/ours", 1, 3}}},
        {.name = "least",
         .title = "The state to forget",
         .parts = {"n"},
         .columns = {{"ns/element", "ns/element", 1, 3},
                     {"min_element/ours", "min_element/ours"},
                     {"eigen/ours", "eigen/ours"},
                     {"read/ours", "read/ours"},
                     {"memcpy/ours", "memcpy/ours"}}},
        {.name = "top_k",
         .title = "The states to keep",
         .parts = {"n"},
         .columns = {{"ns/element", "ns/element"},
                     {"nth_element/ours", "nth_element/ours"},
                     {"read/ours", "read/ours", 1, 3},
                     {"memcpy/ours", "memcpy/ours", 1, 3}}},
    };
    return all;
}

const std::vector<goal>& goals() {
    static const std::vector<goal> all{
        {"MHA, percent of the read probe, 512 states", std::regex("step_and_rivals/b?f16/32x32/512"), "percent_of_read",
         true, 90, 0},
        {"MHA, percent of the read probe, 4096 states", std::regex("step_and_rivals/b?f16/32x32/4096"),
         "percent_of_read", true, 95, 0},
        {"MHA, f16 and bf16, times as fast as Eigen", std::regex("step_and_rivals/b?f16/32x32/.*"), "eigen/step", true,
         2.8},
        {"GQA, f16 and bf16, times as fast as Eigen", std::regex("step_and_rivals/b?f16/32x8/.*"), "eigen/step", true,
         4.3},
        {"a step of TOVA or H2O over attention alone, f16 and bf16", std::regex("step/(tova|h2o)/b?f16/.*"),
         "step/attention", false, 1.02, 3},
        {"the same, int8", std::regex("step/(tova|h2o)/int8/.*"), "step/attention", false, 1.03, 3},
        {"exact over block prefill, 512 tokens on 4096 states", std::regex("prefill/.*/4096/.*"), "exact/block", false,
         1.15},
        {"single steps over exact prefill, the same", std::regex("prefill/.*/4096/.*"), "steps/exact", true, 5},
        {"softmax, ns per element", std::regex("softmax/65536"), "ns/element", false, 0.40},
        {"the state to forget, ns per element", std::regex("least/65536"), "ns/element", false, 0.10},
        {"the states to keep, ns per element", std::regex("top_k/65536"), "ns/element", false, 4},
    };
    return all;
}

}  // namespace bench
