// Banks of filters for Python: multires_edge.runtime.backends.banks keeps their rings beside a graph in ONNX Runtime.

#include "banks.h"

#include <utility>

#include "bindings.h"

namespace {

using Integers = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::vector<float> copied(const Floats& array) { return {array.data(), array.data() + array.size()}; }

struct Banks {
  explicit Banks(size_t batch) : streams(batch) {}

  // rings (n, 3): slots, dilation and taps. terms (n, 3): row, kind and index, see banks.h.
  void add(const Integers& rings, const Floats& weights, const Floats& bias, const Integers& terms,
           const Floats& factors, const Floats& row_bias, const Output& sums, const Floats& sources) {
    if (weights.ndim() != 3 || rings.shape(1) != 3 || terms.shape(1) != 3)
      throw std::invalid_argument("a bank has arrays of another rank");
    multires::Bank bank;
    bank.outputs = weights.shape(0);
    bank.taps = weights.shape(1);
    bank.width = weights.shape(2);
    const size_t of_source = streams.batch() * bank.width;
    if (!of_source || sums.size() != of_source * bank.outputs || sources.size() % of_source)
      throw std::invalid_argument("sums or sources have another size");
    bank.sources = sources.size() / of_source;
    for (size_t i = 0; i < rings.shape(0); ++i) {
      const int64_t* ring = rings.data() + 3 * i;
      bank.rings.push_back({ring[0], ring[1], ring[2]});
    }
    for (size_t i = 0; i < terms.shape(0); ++i) {
      const int64_t* term = terms.data() + 3 * i;
      bank.terms.push_back({term[0], term[1], term[2]});
    }
    bank.weights = copied(weights);
    bank.bias = copied(bias);
    bank.factors = copied(factors);
    bank.row_bias = copied(row_bias);
    streams.add(std::move(bank), sums.data(), sources.data());
    kept.push_back(nb::cast(sums));
    kept.push_back(nb::cast(sources));
  }

  multires::BankStreams streams;
  std::vector<nb::object> kept;  // the memory of sums and sources
};

}  // namespace

void define_banks(nb::module_& module) {
  nb::class_<Banks>(module, "Banks")
      .def(nb::init<size_t>(), nb::arg("batch"))
      .def("add", &Banks::add, nb::arg("rings"), nb::arg("weights"), nb::arg("bias"), nb::arg("terms"),
           nb::arg("factors"), nb::arg("row_bias"), nb::arg("sums").noconvert(), nb::arg("sources").noconvert())
      .def("sum", [](Banks& banks) { banks.streams.sum(); })
      .def("push", [](Banks& banks) { banks.streams.push(); })
      .def(
          "reset",
          [](Banks& banks, size_t row) {
            if (row >= banks.streams.batch()) throw std::invalid_argument("no such row");
            banks.streams.reset(row);
          },
          nb::arg("row"))
      .def_prop_ro("position",
                   [](nb::handle self) {
                     multires::BankStreams& streams = nb::cast<Banks&>(self).streams;
                     return as_numpy(streams.position(), streams.batch(), streams.batch(), self);
                   })
      .def(
          "ring",
          [](nb::handle self, size_t bank, size_t ring) {
            multires::BankStreams& streams = nb::cast<Banks&>(self).streams;
            const multires::Bank& parts = streams.banks().at(bank);
            const size_t slots = static_cast<size_t>(parts.rings.at(ring).slots);
            const size_t shape[4] = {streams.batch(), 1, slots, parts.width};
            return nb::cast(nb::ndarray<nb::numpy, float>(streams.ring(bank, ring), 4, shape, self));
          },
          nb::arg("bank"), nb::arg("ring"));
}
