// The network of a program, and the memory of its stream; network.cpp has them.
#pragma once

#include <cstddef>

#include "network.h"

namespace multires {

extern const Network kNetwork;
extern const size_t kArenaBytes;
extern unsigned char g_arena[];

}  // namespace multires
