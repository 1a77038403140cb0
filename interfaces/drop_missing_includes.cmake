# For CMAKE_PROJECT_INCLUDE: lets packages build against ROS 2 wheels from PyPI.
#
# The wheels' imported targets also name include folders of the machine that built the wheels.
# CMake refuses folders that do not exist, so they go, once the whole CMakeLists.txt has been read.
cmake_language(DEFER CALL drop_missing_includes)

function(drop_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      if(folder MATCHES "\\$<" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()
