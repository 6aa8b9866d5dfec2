"""Rules beside a model: what may be, whatever it learnt."""
