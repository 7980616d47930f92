// The elementary functions against double precision, for every instruction set of this CPU:
//   math_test
// Prints the largest errors, and exits 0 if all are within the bounds in kernels_impl.h.

#include <limits>

#include "isas.h"

namespace {

double exact_gelu(double x) { return std::isinf(x) ? (x > 0 ? x : 0.0) : 0.5 * x * std::erfc(-x * std::sqrt(0.5)); }
double exact_sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// Every exponent with a few mantissas, both signs, denormals and infinities; and [-100, 100] densely.
std::vector<float> arguments() {
  std::vector<float> all;
  for (uint32_t bits = 0; bits <= 0x7f800000u; bits += 0x3fff9u) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    all.insert(all.end(), {x, -x});
  }
  for (int i = -2000000; i <= 2000000; ++i) all.push_back(static_cast<float>(i) * 5e-5f);
  using Limits = std::numeric_limits<float>;
  for (float x : {Limits::denorm_min(), Limits::min(), Limits::epsilon(), 5.4f, 5.5f, 87.0f, 88.0f, 104.0f,
                  Limits::max(), Limits::infinity()})
    for (float near : {x, std::nextafter(x, 0.0f), std::nextafter(x, Limits::infinity())})
      all.insert(all.end(), {near, -near});
  return all;
}

// The largest |got - exact| in units of the allowed error.
template <typename Exact, typename Allowed>
double worst(void (*function)(const float*, float*, int), const std::vector<float>& x, Exact exact, Allowed allowed) {
  std::vector<float> y(x.size());
  function(x.data(), y.data(), static_cast<int>(x.size()));
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double wanted = exact(x[i]);
    const double error = y[i] == wanted ? 0.0 : std::abs(y[i] - wanted) / allowed(wanted);
    if (!(error <= most)) most = error;  // NaN too
    if (!(error <= 1.0)) {
      std::fprintf(stderr, "f(%.9g) is %.9g, expected %.9g\n", x[i], y[i], wanted);
      return error;
    }
  }
  return most;
}

// A count that is not a multiple of a vector gives the same values, and changes nothing after them.
bool ends_where_it_should(void (*function)(const float*, float*, int)) {
  std::vector<float> x(64), whole(64);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) * 0.1f - 3.0f;
  function(x.data(), whole.data(), 64);
  for (int n = 0; n <= 40; ++n) {
    std::vector<float> y(64, -7.0f);
    function(x.data(), y.data(), n);
    for (size_t i = 0; i < y.size(); ++i)
      if (y[i] != (i < static_cast<size_t>(n) ? whole[i] : -7.0f)) return false;
  }
  return true;
}

}  // namespace

int main() {
  const std::vector<float> x = arguments();
  for_each_isa([&](const multires::Kernels& kernels) {
    const double gelu = worst(kernels.parts->gelu, x, exact_gelu, [](double) { return 5e-7; });
    // Below x = -87, where the sigmoid is under 2^-125, the test only checks that bound.
    const double sigmoid = worst(kernels.parts->sigmoid, x, exact_sigmoid,
                                 [](double y) { return 5e-7 * y + (y < 2e-38 ? std::ldexp(1.0, -125) : 0); });
    std::printf("%s: gelu %.3g absolute, sigmoid %.3g relative\n", kernels.isa, gelu * 5e-7, sigmoid * 5e-7);
    CHECK(gelu <= 1.0 && sigmoid <= 1.0);
    CHECK(ends_where_it_should(kernels.parts->gelu) && ends_where_it_should(kernels.parts->sigmoid));
  });
  return 0;
}
