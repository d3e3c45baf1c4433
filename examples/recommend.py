"""A list for someone who is new, from your own table of user, item and rating, in five lines."""

import hierfed

model = hierfed.fit("ratings.csv", protocol="warm", rounds=20)
for item in model.recommend(ratings={"1": 5, "2": 2, "3": 4.5}, k=5).items:
    print(f"{item.rating:.1f} ({item.lowest:.1f} to {item.highest:.1f})  {item.title}")
