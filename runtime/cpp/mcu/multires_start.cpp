// The stream of a program of one network. Its memory is part of the program: there is no heap.

#include <new>

#include "multires_start.h"
#include "one_network.h"
#include "state.h"

namespace multires {
namespace {

alignas(multires_state) unsigned char g_state[sizeof(multires_state)];

}  // namespace
}  // namespace multires

// What the table of an abstract class refers to. That of the C++ library brings code to print a message.
extern "C" void __cxa_pure_virtual() {
  for (;;) {
  }
}

extern "C" multires_status multires_start(multires_state** state) {
  using namespace multires;
  if (!state) return MULTIRES_ARGUMENT;
  *state = nullptr;
  const int32_t window = kNetwork.info.window;
  Counter counter;
  const multires_state counted(kNetwork, 1, window, 1, counter);
  if (counter.bytes() != kArenaBytes) return MULTIRES_MEMORY;  // another version of the engine
  Arena arena(g_arena);
  *state = new (g_state) multires_state(kNetwork, 1, window, 1, arena);
  return MULTIRES_OK;
}
