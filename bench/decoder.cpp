#include "decoder.hpp"

namespace bench {

template <class Keys, class Values>
decoder<Keys, Values>::decoder(const ms::any_policy& policy, const layer_shape& l, std::size_t count, layers_of where)
    : layer_(l),
      never_forgets_(policy.forgets() == ms::per::never),
      scratch_(shape(policy, l, 1)),
      q_(random_floats(l.heads * l.head_dim, 1)),
      k_(l.kv_heads * l.head_dim, 2),
      v_(l.kv_heads * l.head_dim, 3),
      out_(l.heads * l.head_dim) {
    if (count == 0) count = std::max<std::size_t>(2, cold_bytes / bytes_of<Keys, Values>(l, l.states) + 1);
    const bool one = where == layers_of::one_cache;
    caches_.reserve(one ? 1 : count);
    caches_.emplace_back(shape(policy, l, one ? count : 1), policy);
    fill_first();
    while (caches_.size() < caches_.capacity()) caches_.push_back(caches_.front().clone());
    attend_at_ = count / 2;
}

template <class Keys, class Values>
void decoder<Keys, Values>::fill_first() {
    for (std::size_t i = 0; i < shape().layers; ++i) fill(caches_.front().layer(i), layer_.states + 1, q_, k_, v_);
}

template <class Keys, class Values>
void decoder<Keys, Values>::prepare() {
    const ms::shape& s = caches_.front().shape();
    if (!never_forgets_ || layer(step_at_).size() < s.states + s.block) return;
    caches_.front().clear();
    fill_first();
    for (std::size_t i = 1; i < caches_.size(); ++i) caches_[i] = caches_.front().clone();
}

template <class Keys, class Values>
void decoder<Keys, Values>::step() noexcept {
    ms::serial run;
    step(run);
}

template <class Keys, class Values>
void decoder<Keys, Values>::attend() noexcept {
    ms::attend(layer(attend_at_), q_, out_, scratch_);
    attend_at_ = (attend_at_ + 1) % count();
}

template class decoder<ms::f32>;
template class decoder<ms::f16>;
template class decoder<ms::bf16>;
template class decoder<ms::int8>;
template class decoder<ms::int4>;
template class decoder<ms::int8, ms::int4>;

}  // namespace bench
