"""What can go wrong in a run: each rule looks at its points and gives a sentence, or "" where it has nothing to say.

Thresholds come from three places, named with each: papers, TRL's own definitions of a metric, and runs of the starter
model (3 million parameters, 120 rows), of which good and ruined ones were measured. Where a large model may rightly
differ, a rule warns and does not condemn.
"""
