#include "decoder.hpp"

namespace bench {

template <class Keys, class Values>
decoder<Keys, Values>::decoder(const ms::any_policy& policy, const layer_shape& l, std::size_t count)
    : layer_(l),
      never_forgets_(policy.forgets() == ms::per::never),
      scratch_(shape(policy, l)),
      q_(random_floats(l.heads * l.head_dim, 1)),
      k_(l.kv_heads * l.head_dim, 2),
      v_(l.kv_heads * l.head_dim, 3),
      out_(l.heads * l.head_dim) {
    if (count == 0) count = std::max<std::size_t>(2, cold_bytes / bytes_of<Keys, Values>(l, l.states) + 1);
    caches_.reserve(count);
    caches_.emplace_back(shape(policy, l), policy);
    fill(caches_.front(), l.states + 1, q_, k_, v_);
    while (caches_.size() < count) caches_.push_back(caches_.front().clone());
    attend_at_ = count / 2;
}

template <class Keys, class Values>
void decoder<Keys, Values>::prepare() {
    const ms::shape& s = caches_.front().shape();
    if (!never_forgets_ || caches_[step_at_].layer(0).size() < s.states + s.block) return;
    for (cache& c : caches_) {
        c.clear();
        fill(c, s.states + 1, q_, k_, v_);
    }
}

template <class Keys, class Values>
void decoder<Keys, Values>::step() noexcept {
    ms::serial run;
    step(run);
}

template <class Keys, class Values>
void decoder<Keys, Values>::attend() noexcept {
    ms::attend(caches_[attend_at_].layer(0), q_, out_, scratch_);
    attend_at_ = (attend_at_ + 1) % caches_.size();
}

template class decoder<ms::f32>;
template class decoder<ms::f16>;
template class decoder<ms::bf16>;
template class decoder<ms::int8>;
template class decoder<ms::int4>;
template class decoder<ms::int8, ms::int4>;

}  // namespace bench
