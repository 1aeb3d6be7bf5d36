#pragma once

// The umbrella of the recurrent cells; multistate.hpp does not include it.
//
//     #include <multistate/recurrent/recurrent.hpp>
#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/gru.hpp"
#include "multistate/recurrent/lstm.hpp"
#include "multistate/recurrent/min_gru.hpp"
#include "multistate/recurrent/min_lstm.hpp"
#include "multistate/recurrent/selective.hpp"
