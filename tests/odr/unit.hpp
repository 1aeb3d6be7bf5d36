#pragma once

// What the two differently compiled halves of the program tell main. Plain data and declarations only: an inline
// function here would itself have two bodies under one name.

struct unit_result {
    const char* target;  // not ended by a zero
    unsigned long target_length;
    int flags;             // a bit for each instruction set that the compiler was allowed
    float out[4];          // of the last step
    int held[3];           // positions, ascending
    const void* instance;  // an address inside this half's instance of the library
};

extern const float* const unit_queries;  // [2 heads][2]
extern const float* const unit_keys;     // [5 tokens][2]
extern const float* const unit_values;   // [5 tokens][2]

unit_result run_baseline();
unit_result run_native();
