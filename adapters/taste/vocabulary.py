"""Some two hundred words that pictures are talked about with, for a taste in words."""

from __future__ import annotations

from .words import Word

__all__ = ["VOCABULARY"]

_KINDS: dict[str, tuple[str, str]] = {
    "subject": (
        "a picture of {}",
        "people, a face, a crowd, children, an old person, hands, a dancer, a cat, a dog, a horse, birds, fish, "
        "insects, wild animals, flowers, trees, a forest, mountains, the sea, a lake, a river, a waterfall, a "
        "desert, snow, clouds, the night sky, planets, a garden, fruit, food, a cup of coffee, a table, a chair, "
        "a house, a castle, a temple, ruins, a city, a street, a bridge, a tower, an interior, a window, a "
        "staircase, a library, a workshop, a car, a train, a ship, an aeroplane, machines, robots, toys, books, "
        "jewellery, clothes, armour, dragons, monsters, geometric shapes",
    ),
    "style": (
        "{}",
        "a photograph, an oil painting, a watercolour, an ink drawing, a pencil sketch, a charcoal drawing, a "
        "woodcut, a linocut, an etching, a pastel drawing, a comic, a cartoon, anime, pixel art, vector art, flat"
        " design, a poster, a collage, a mosaic, stained glass, a fresco, calligraphy, graffiti, origami, "
        "embroidery, a sculpture, ceramics, a 3D render, low poly, claymation, concept art, abstract art, cubism,"
        " impressionism, expressionism, surrealism, art nouveau, art deco, baroque, minimalism, pop art, ukiyo-e,"
        " brutalism, steampunk, cyberpunk, a children's book illustration, a scientific illustration, a "
        "blueprint, an old map, a film still, a polaroid",
    ),
    "colour": (
        "a picture in {}",
        "red, orange, yellow, gold, green, turquoise, blue, purple, pink, brown, beige, grey, black, white, "
        "pastel colours, neon colours, muted colours, saturated colours, warm colours, cold colours, earth tones,"
        " black and white, sepia, many colours, one colour, strong contrasts",
    ),
    "light": (
        "a picture in {}",
        "bright daylight, soft light, hard light, golden light, moonlight, candlelight, firelight, neon light, "
        "studio light, backlight, dim light, fog, rain, mist, dappled shade, deep shadows, sunset, dawn, dusk, "
        "overcast weather, a storm, sunbeams, glowing light, silhouettes",
    ),
    "mood": (
        "{} atmosphere",
        "calm, cheerful, playful, cosy, romantic, dreamy, nostalgic, melancholic, lonely, solemn, mysterious, "
        "eerie, dark, gloomy, dramatic, epic, tense, wild, chaotic, energetic, elegant, luxurious, rustic, "
        "futuristic, ancient, magical, whimsical, funny, cute, tender, sensual, cruel, sterile, raw",
    ),
    "composition": (
        "a picture with {}",
        "a close view, a wide view, a view from above, a view from below, a centred subject, an empty background, much "
        "empty space, a crowded scene, symmetry, a pattern, strong lines, curves, fine detail, simple shapes, rough "
        "texture, smooth surfaces, a blurred background, a frame, great depth, motion blur, reflections, repetition, "
        "a tilted view, a small subject, a large subject",
    ),
}

VOCABULARY: tuple[Word, ...] = tuple(
    Word(text, kind, sentence.format(text)) for kind, (sentence, texts) in _KINDS.items() for text in texts.split(", ")
)
