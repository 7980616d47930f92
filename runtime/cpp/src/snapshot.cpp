#include "snapshot.h"

#include <cstring>

#include "digest.h"

namespace multires {
namespace {

constexpr char kMagic[8] = "MRSTATE";
constexpr uint32_t kVersion = 1;

struct Header {
  char magic[8];
  uint32_t version, header_bytes;
  uint64_t network;
  int32_t batch, window;
  uint64_t parts_bytes, parts_digest;
};
static_assert(sizeof(Header) == 48, "the layout that snapshot.h describes, without padding");

size_t parts_bytes(const OwnedState& state) {
  size_t bytes = 0;
  for (const multires_part& part : state.parts) bytes += part.bytes;
  return bytes;
}

bool all_positions(const unsigned char* data, size_t bytes) {
  for (size_t i = 0; i < bytes; i += sizeof(int64_t)) {
    int64_t position;
    std::memcpy(&position, data + i, sizeof position);
    if (position < 0 || position > kMaxPosition) return false;
  }
  return true;
}

bool all_good(const multires_part& part, const unsigned char* data) {
  return part.dtype == MULTIRES_INT64 ? all_positions(data, part.bytes) : all_finite(part.dtype, data, part.bytes);
}

}  // namespace

size_t snapshot_size(const OwnedState& state) noexcept { return sizeof(Header) + parts_bytes(state); }

void save_snapshot(const OwnedState& state, unsigned char* buffer) noexcept {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.header_bytes = sizeof header;
  header.network = state.model->fingerprint;
  header.batch = state.batch;
  header.window = state.pool.window;
  header.parts_bytes = parts_bytes(state);
  unsigned char* at = buffer + sizeof header;
  for (const multires_part& part : state.parts) {
    std::memcpy(at, part.data, part.bytes);
    at += part.bytes;
  }
  header.parts_digest = digest(buffer + sizeof header, header.parts_bytes);
  std::memcpy(buffer, &header, sizeof header);
}

multires_status load_snapshot(OwnedState& state, const unsigned char* buffer, size_t size) noexcept {
  Header header;
  if (size < sizeof header) return MULTIRES_MALFORMED;
  std::memcpy(&header, buffer, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return MULTIRES_MALFORMED;
  if (header.version != kVersion || header.header_bytes != sizeof header) return MULTIRES_UNSUPPORTED;
  const unsigned char* parts = buffer + sizeof header;
  if (header.parts_bytes != size - sizeof header || header.parts_digest != digest(parts, size - sizeof header))
    return MULTIRES_MALFORMED;
  if (header.network != state.model->fingerprint || header.batch != state.batch || header.window != state.pool.window ||
      header.parts_bytes != parts_bytes(state))
    return MULTIRES_MISMATCH;
  const unsigned char* at = parts;
  for (const multires_part& part : state.parts) {
    if (!all_good(part, at)) return MULTIRES_MALFORMED;
    at += part.bytes;
  }
  for (const multires_part& part : state.parts) {
    std::memcpy(part.data, parts, part.bytes);
    parts += part.bytes;
  }
  state.phase = Phase::kSettled;
  state.find_heads();
  return MULTIRES_OK;
}

}  // namespace multires
