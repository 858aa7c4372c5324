"""The mathematics of the observers that MA-LfL is compared with, from their papers' definitions.

Arrays in, arrays out, as in `malfl_algos.ma_lfl`. `gradient_learner` is of LOGEL (Ramponi et al.
2020), whose gradients are in `malfl_algos.ma_lfl.gpomdp`; `gradient_history` is our variant of it;
`ranking` is of T-REX (Brown et al. 2019).

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
