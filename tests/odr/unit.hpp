#pragma once

// What the differently compiled parts of the program tell main. Plain data and declarations only: an inline
// function here would itself have two bodies under one name.

struct unit_result {
    const char* target;  // not ended by a zero
    unsigned long target_length;
    int flags;     // a bit for each instruction set that the compiler was allowed
    int checks;    // MULTISTATE_CHECKS
    float out[4];  // of the last step, by codec
    float out_of_bytes[4];
    float out_of_brains[4];
    int held[3];  // positions, ascending
    // Addresses inside this part's instance of the library
    const void* softmax;
    const void* dot_products;
    const void* failure_handler;  // which all parts share
};

extern const float* const unit_queries;  // [2 heads][2]
extern const float* const unit_keys;     // [5 tokens][2]
extern const float* const unit_values;   // [5 tokens][2]

unit_result run_baseline();
unit_result run_native();
unit_result run_without_dots();
unit_result run_unchecked();
