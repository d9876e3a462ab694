// GIF files through giflib. Of an animation, the first picture.
#include <gif_lib.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

struct Input {
  Bytes file;
  std::size_t position = 0;
};

int read_from(GifFileType* gif, GifByteType* bytes, int count) {
  auto& input = *static_cast<Input*>(gif->UserData);
  const std::size_t taken = std::min(static_cast<std::size_t>(count), input.file.size() - input.position);
  std::memcpy(bytes, input.file.data() + input.position, taken);
  input.position += taken;
  return static_cast<int>(taken);
}

struct CloseGif {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};

/// A GIF file being read; its functions throw, with giflib's reason.
class GifReader {
 public:
  GifReader(Bytes file, std::string_view name) : input_{file}, name_(name) {
    int error = 0;
    gif_.reset(DGifOpen(&input_, read_from, &error));
    VT_CHECK(gif_ != nullptr, "{}: bad GIF header: {}", name_, reason(error));
  }

  const GifFileType& gif() const { return *gif_; }
  int transparent_color() const { return transparent_; }  // its index, or -1

  /// Goes to the first picture, whose place and colours gif().Image has then.
  void find_picture() {
    GifRecordType type = UNDEFINED_RECORD_TYPE;
    while (type != IMAGE_DESC_RECORD_TYPE) {
      check(DGifGetRecordType(gif_.get(), &type));
      VT_CHECK(type != TERMINATE_RECORD_TYPE, "{}: bad GIF data: no picture before the end", name_);
      if (type == EXTENSION_RECORD_TYPE) read_extension();
    }
    check(DGifGetImageDesc(gif_.get()));
  }

  void read_row(std::vector<GifPixelType>& row) {
    check(DGifGetLine(gif_.get(), row.data(), static_cast<int>(row.size())));
  }

 private:
  void read_extension() {
    int code = 0;
    GifByteType* block = nullptr;  // its length and its bytes
    check(DGifGetExtension(gif_.get(), &code, &block));
    while (block != nullptr) {
      GraphicsControlBlock control;
      if (code == GRAPHICS_EXT_FUNC_CODE && DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK) {
        if (control.TransparentColor != NO_TRANSPARENT_COLOR) transparent_ = control.TransparentColor;
      }
      check(DGifGetExtensionNext(gif_.get(), &block));
    }
  }

  static const char* reason(int error) {
    const char* text = GifErrorString(error);
    return text ? text : "damaged or incomplete";
  }

  void check(int status) { VT_CHECK(status == GIF_OK, "{}: bad GIF data: {}", name_, reason(gif_->Error)); }

  Input input_;
  std::string_view name_;
  std::unique_ptr<GifFileType, CloseGif> gif_;
  int transparent_ = -1;
};

/// The colours of the picture's own map, else of the file's; an index without a colour is grey of
/// that brightness, as in Pillow.
std::vector<GifColorType> colors_of(const GifFileType& gif) {
  std::vector<GifColorType> colors(256);
  for (std::size_t i = 0; i < 256; ++i) {
    const auto grey = static_cast<GifByteType>(i);
    colors[i] = {grey, grey, grey};
  }
  const ColorMapObject* map = gif.Image.ColorMap ? gif.Image.ColorMap : gif.SColorMap;
  if (map != nullptr) std::copy_n(map->Colors, std::clamp(map->ColorCount, 0, 256), colors.begin());
  return colors;
}

void put(const GifColorType& color, std::uint8_t* pixel) {
  pixel[0] = color.Red;
  pixel[1] = color.Green;
  pixel[2] = color.Blue;
}

/// The numbers of the rows in the order in which they are stored.
std::vector<int> order_of_rows(int height, bool interlaced) {
  std::vector<int> rows;
  const auto add = [&](int first, int step) {
    for (int y = first; y < height; y += step) rows.push_back(y);
  };
  if (!interlaced) {
    add(0, 1);
  } else {
    for (const auto& [first, step] : {std::pair{0, 8}, {4, 8}, {2, 4}, {1, 2}}) add(first, step);
  }
  return rows;
}

}  // namespace

Image decode_gif(Bytes file, std::string_view name) {
  GifReader reader(file, name);
  reader.find_picture();
  const GifImageDesc& place = reader.gif().Image;
  // A code of 9 bits or more stands for 4096 pixels at the most.
  check_image_claim(name, static_cast<std::uint64_t>(place.Height), static_cast<std::uint64_t>(place.Width),
                    file.size(), 4096);
  // The canvas grows where the picture does not lie inside it, as in Pillow.
  const int height = std::max(reader.gif().SHeight, place.Top + place.Height);
  const int width = std::max(reader.gif().SWidth, place.Left + place.Width);
  check_image_claim(name, static_cast<std::uint64_t>(height), static_cast<std::uint64_t>(width), file.size(),
                    max_image_pixels);

  const std::vector<GifColorType> colors = colors_of(reader.gif());
  Image image(height, width);
  const GifColorType background = colors[static_cast<std::size_t>(std::max(reader.transparent_color(), 0))];
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) put(background, &image.pixels[i]);
  std::vector<GifPixelType> row(static_cast<std::size_t>(place.Width));
  for (const int y : order_of_rows(place.Height, place.Interlace)) {
    reader.read_row(row);
    for (int x = 0; x < place.Width; ++x) {
      put(colors[row[static_cast<std::size_t>(x)]], image.at(place.Top + y, place.Left + x));
    }
  }
  return image;
}

}  // namespace vitrine
