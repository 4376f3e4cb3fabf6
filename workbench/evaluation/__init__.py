"""Did the editor get better: held-out tasks during a training, public benchmarks, two editors pair by pair."""
