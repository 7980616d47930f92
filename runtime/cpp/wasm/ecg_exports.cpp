// What JavaScript calls; ecg.js has the other side.
#include <utility>

#include "ecg_stream.h"
#include "exports.h"
#include "one_network.h"

#include "card.h"

namespace {

std::vector<bool> bits(const uint8_t* given) { return std::vector<bool>(given, given + multires::kCard.leads.size()); }

}  // namespace

// A stream of samples at `rate` Hz; missing and derived (channels) are 1 for such channels. Null for a rate that no
// device has, or without memory.
MULTIRES_EXPORT(ecg_new)
multires::EcgStream* ecg_new(double rate, const uint8_t* missing, const uint8_t* derived) {
  using namespace multires;
  if (!Resampler::accepts(rate, kCard.rate)) return nullptr;
  NetworkStream network(new_stream(kNetwork, kCard.window));
  if (!network) return nullptr;
  return new EcgStream(kCard, kNetwork.info.d_output, std::move(network), bits(missing), bits(derived), rate);
}

// Samples (count, channels), see EcgStream::push. Returns the number of doubles of the decisions that are due.
MULTIRES_EXPORT(ecg_push) int32_t ecg_push(multires::EcgStream* stream, const double* samples, int32_t count) {
  stream->decisions().clear();
  for (int32_t t = 0; t < count; ++t) stream->push(samples + static_cast<size_t>(t) * multires::kCard.leads.size());
  return static_cast<int32_t>(stream->decisions().size());
}
MULTIRES_EXPORT(ecg_finish) int32_t ecg_finish(multires::EcgStream* stream) {
  stream->decisions().clear();
  stream->finish();
  return static_cast<int32_t>(stream->decisions().size());
}
// The decisions that are due, see EcgStream::decisions; they are valid up to the next call of ecg_push or ecg_finish,
// which begins with none.
MULTIRES_EXPORT(ecg_decisions) const double* ecg_decisions(multires::EcgStream* stream) {
  return stream->decisions().data();
}
MULTIRES_EXPORT(ecg_free) void ecg_free(multires::EcgStream* stream) { delete stream; }
