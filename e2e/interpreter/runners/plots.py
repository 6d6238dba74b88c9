"""What is drawn in the checks of charts, and what their data must say."""

LINE = """
import matplotlib.pyplot as plt
plt.figure()
plt.plot([1, 2, 3], [2.0, 4.0, 8.0], label="growth")
plt.xlabel("Time (s)"); plt.ylabel("Size (m)"); plt.title("Line")
plt.show()
"""
SCATTER = """
import matplotlib.pyplot as plt
plt.figure(); plt.scatter([1, 2], [3, 4], label="one"); plt.scatter([5], [6], label="two")
plt.xlabel("A"); plt.ylabel("B"); plt.title("Scatter"); plt.show()
"""
BAR = """
import matplotlib.pyplot as plt
plt.figure(); plt.bar(["a", "b"], [3, 5], label="sold")
plt.xlabel("Who"); plt.ylabel("How many"); plt.title("Bar"); plt.show()
"""
PIE = """
import matplotlib.pyplot as plt
plt.figure(); plt.pie([1, 3], labels=["small", "large"]); plt.title("Pie"); plt.show()
"""
BOX = """
import matplotlib.pyplot as plt
plt.figure(); plt.boxplot([[1, 2, 3, 4, 5], [2, 4, 6, 8, 9, 30]], tick_labels=["a", "b"], patch_artist=True)
plt.xlabel("Group"); plt.ylabel("Value"); plt.title("Box"); plt.show()
"""
SUPER = """
import matplotlib.pyplot as plt
figure, (left, right) = plt.subplots(1, 2)
left.plot([1, 2], [3, 4]); left.set_title("L")
right.bar(["a"], [1]); right.set_title("R")
figure.suptitle("Both"); plt.show()
"""
LOG = """
import matplotlib.pyplot as plt
plt.figure(); plt.plot([1, 10, 100], [1, 2, 3]); plt.xscale("log"); plt.title("Log"); plt.show()
"""
