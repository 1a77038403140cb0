"""The 68 iBUG landmarks as vertices of MediaPipe's 468-point face mesh.

Jaw vertices are those nearest to equal arc lengths from the ear to the chin on an average face.
The mesh follows the skin, iBUG the outline: on turned heads the far jaw differs.
"""

_JAW_RIGHT = (127, 234, 93, 58, 172, 136, 149, 148)
_CHIN = (152,)
_JAW_LEFT = (377, 378, 365, 397, 288, 323, 454, 356)
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_NOSE = (168, 197, 5, 4, 98, 97, 2, 326, 327)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_OUTER_LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)
_INNER_LIPS = (78, 81, 13, 311, 308, 402, 14, 178)

MESH_TO_68 = _JAW_RIGHT + _CHIN + _JAW_LEFT + _BROWS + _NOSE + _EYES + _OUTER_LIPS + _INNER_LIPS
"""Vertex of each landmark, iBUG order."""
