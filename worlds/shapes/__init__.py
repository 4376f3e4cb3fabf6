"""The demo world: 32x32 scenes of coloured shapes, six edit tasks, an oracle, a tiny judge and a tiny editor."""
