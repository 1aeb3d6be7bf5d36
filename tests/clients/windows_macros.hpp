// Words that windows.h takes away from those who include it: the macros of windef.h, winnt.h, rpcndr.h, minwindef.h and
// wingdi.h that look like names. The standard library comes first: its own headers need not survive `min`.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <concepts>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <Eigen/Core>

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define small char
#define hyper __int64
#define near
#define far
#define interface struct
#define cdecl
#define pascal
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define TRUE 1
#define FALSE 0
#define STRICT 1
#define ERROR 0
#define NO_ERROR 0
#define DELETE 0x00010000L
#define ABSOLUTE 1
#define RELATIVE 2
#define DIFFERENCE 11
#define IGNORE 0
#define INFINITE 0xFFFFFFFF
#define OPAQUE 2
#define TRANSPARENT 1
#define DOMAIN 1
#define OVERFLOW 3
#define UNDERFLOW 4
#define CALLBACK
#define Yield()
#define GetObject GetObjectA
#define GetMessage GetMessageA
