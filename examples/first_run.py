"""The paper's experiment in five lines."""

import hierfed

run = hierfed.run("paper", seed=0)
for sentence in run.result.verdict.words:
    print(sentence)
print(f"RMSE by round: {[round(record.global_rmse, 3) for record in run.result.rounds]}")
