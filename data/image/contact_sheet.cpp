// Layout of the grid and of the captions.
#include "data/image/contact_sheet.h"

#include <algorithm>
#include <cstring>

#include "data/image/file_bytes.h"
#include "data/image/font.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

constexpr int least_side = 128, gap = 8;
constexpr Color paper = {250, 250, 247}, ink = {30, 30, 30};

int longest_side(const std::vector<std::vector<Tile>>& rows) {
  int side = 0;
  for (const auto& row : rows) {
    for (const Tile& tile : row) {
      VT_CHECK(tile.picture.height > 0 && tile.picture.width > 0 && tile.picture.channels == 3,
               "contact sheet: a picture has {} x {} pixels and {} channels, expected at least one and 3",
               tile.picture.width, tile.picture.height, tile.picture.channels);
      side = std::max({side, tile.picture.height, tile.picture.width});
    }
  }
  VT_CHECK(side > 0, "contact sheet: there are no pictures, expected at least one");
  return side;
}

/// Puts the picture into the middle of the square cell, enlarged by the largest whole factor that
/// fits.
void place(const Image& picture, int top, int left, int side, Image& sheet) {
  const int factor = std::max(1, side / std::max(picture.height, picture.width));
  top += (side - factor * picture.height) / 2;
  left += (side - factor * picture.width) / 2;
  for (int y = 0; y < factor * picture.height; ++y) {
    for (int x = 0; x < factor * picture.width; ++x) {
      std::memcpy(sheet.at(top + y, left + x), picture.at(y / factor, x / factor), 3);
    }
  }
}

/// Writes lines below each other.
void write_lines(const std::vector<std::string>& lines, int top, int left, Image& sheet) {
  for (const std::string& line : lines) {
    draw_text(sheet, top, left, line, ink);
    top += glyph_height;
  }
}

/// How many characters fit into `pixels`; the last one needs no space behind it.
int characters_in(std::int64_t pixels) { return static_cast<int>((pixels + 1) / glyph_width); }

}  // namespace

std::vector<std::string> wrapped(const std::vector<std::string>& phrases, int width) {
  const auto limit = static_cast<std::size_t>(std::max(width, 1));
  std::vector<std::string> lines;
  for (std::string phrase : phrases) {
    if (!lines.empty() && lines.back().size() + 2 + phrase.size() <= limit) {
      lines.back() += ", " + phrase;
      continue;
    }
    while (phrase.size() > limit) {
      const std::size_t space = phrase.rfind(' ', limit);  // one just behind the line will do
      const bool found = space != std::string::npos && space > 0;
      lines.push_back(phrase.substr(0, found ? space : limit));
      phrase.erase(0, found ? space + 1 : limit);
    }
    lines.push_back(phrase);
  }
  return lines;
}

Image contact_sheet(const std::vector<std::vector<Tile>>& rows, const std::string& heading) {
  const int longest = longest_side(rows);
  const int side = longest * ((least_side + longest - 1) / longest);
  const int characters = characters_in(side);
  std::size_t columns = 0;
  for (const auto& row : rows) columns = std::max(columns, row.size());
  const std::int64_t width = gap + static_cast<std::int64_t>(columns) * (side + gap);
  std::vector<std::string> heading_lines;
  if (!heading.empty()) heading_lines = wrapped({heading}, characters_in(width - 2 * gap));
  const int first_top = gap + static_cast<int>(heading_lines.size()) * glyph_height;
  std::int64_t height = first_top;
  std::vector<int> heights;  // of the rows
  for (const auto& row : rows) {
    std::size_t lines = 0;
    for (const Tile& tile : row) lines = std::max(lines, wrapped(tile.caption, characters).size());
    heights.push_back(side + gap / 2 + static_cast<int>(lines) * glyph_height + gap);
    height += heights.back();
  }
  VT_CHECK(height <= max_image_pixels / width, "contact sheet: {} x {} pixels, expected {} in all at most", width,
           height, max_image_pixels);

  Image sheet(static_cast<int>(height), static_cast<int>(width));
  for (std::size_t i = 0; i < sheet.pixels.size(); i += 3) std::memcpy(&sheet.pixels[i], paper.data(), 3);
  write_lines(heading_lines, gap, gap, sheet);
  int top = first_top;
  for (std::size_t i = 0; i < rows.size(); top += heights[i], ++i) {
    int left = gap;
    for (const Tile& tile : rows[i]) {
      place(tile.picture, top, left, side, sheet);
      write_lines(wrapped(tile.caption, characters), top + side + gap / 2, left, sheet);
      left += side + gap;
    }
  }
  return sheet;
}

}  // namespace vitrine
