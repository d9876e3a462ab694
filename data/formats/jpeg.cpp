// JPEG files through libjpeg.
//
// libjpeg reports errors by longjmp, which must not cross an object with a destructor. So every
// function that calls setjmp works on plain data only, and the C++ side turns the message it left
// into an Error.
#include <csetjmp>
#include <cstdio>
// libjpeg's headers need <cstdio> before them.
#include <jerror.h>
#include <jpeglib.h>

#include "data/formats/formats.h"
#include "data/formats/inks.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

/// libjpeg's decoder, where to jump on an error, and the text of that error. Plain data.
struct JpegDecoder {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  std::jmp_buf on_error;
  char message[JMSG_LENGTH_MAX];
};

void keep_message_and_jump(j_common_ptr info) {
  auto* decoder = static_cast<JpegDecoder*>(info->client_data);
  info->err->format_message(info, decoder->message);
  std::longjmp(decoder->on_error, 1);
}

/// Warnings are ignored but for those that mean missing data, which libjpeg would fill with grey.
void refuse_missing_data(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) keep_message_and_jump(info);
}

void no_output(j_common_ptr) {}

bool read_header(JpegDecoder& decoder, const unsigned char* bytes, unsigned long size) {
  decoder.info.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = keep_message_and_jump;
  decoder.errors.emit_message = refuse_missing_data;
  decoder.errors.output_message = no_output;
  decoder.info.client_data = &decoder;
  if (setjmp(decoder.on_error) != 0) return false;
  jpeg_create_decompress(&decoder.info);
  jpeg_mem_src(&decoder.info, bytes, size);
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

/// Decodes all rows into `pixels`, `row_bytes` apart.
bool read_pixels(JpegDecoder& decoder, unsigned char* pixels, std::size_t row_bytes) {
  if (setjmp(decoder.on_error) != 0) return false;
  jpeg_start_decompress(&decoder.info);
  while (decoder.info.output_scanline < decoder.info.output_height) {
    JSAMPROW row = pixels + decoder.info.output_scanline * row_bytes;
    jpeg_read_scanlines(&decoder.info, &row, 1);
  }
  jpeg_finish_decompress(&decoder.info);
  return true;
}

/// Four inks are stored inverted, 255 = none, as Adobe's programs write them. Pillow takes that for
/// granted with and without Adobe's marker.
Image rgb_from_inverted_inks(const Image& inks) {
  Image rgb(inks.height, inks.width);
  const std::size_t count = rgb.pixels.size() / 3;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* ink = &inks.pixels[4 * i];
    rgb_from_inks(255 - ink[0], 255 - ink[1], 255 - ink[2], 255 - ink[3], &rgb.pixels[3 * i]);
  }
  return rgb;
}

/// Frees what libjpeg holds, also when an Error passes by. jpeg_destroy never fails.
struct DestroyAtEnd {
  JpegDecoder& decoder;
  ~DestroyAtEnd() { jpeg_destroy_decompress(&decoder.info); }
};

}  // namespace

Image decode_jpeg(Bytes file, std::string_view name) {
  VT_CHECK(!file.empty(), "{}: empty file, expected a JPEG", name);
  JpegDecoder decoder = {};
  DestroyAtEnd destroy{decoder};
  VT_CHECK(read_header(decoder, file.data(), static_cast<unsigned long>(file.size())), "{}: bad JPEG header: {}", name,
           decoder.message);
  // Every 8 x 8 block of some component costs a bit or more, and a block covers 32 x 32 pixels at
  // the most.
  check_image_claim(name, decoder.info.image_height, decoder.info.image_width, file.size(), 8 * 32 * 32);

  const bool has_inks = decoder.info.num_components == 4;
  decoder.info.out_color_space = has_inks ? JCS_CMYK : JCS_RGB;
  Image image(static_cast<int>(decoder.info.image_height), static_cast<int>(decoder.info.image_width),
              has_inks ? 4 : 3);
  const std::size_t row_bytes = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
  VT_CHECK(read_pixels(decoder, image.pixels.data(), row_bytes), "{}: bad JPEG data in row {} of {}: {}", name,
           decoder.info.output_scanline, image.height, decoder.message);
  return has_inks ? rgb_from_inverted_inks(image) : image;
}

}  // namespace vitrine
